"""The pages, in the order in which the navigation has them."""

from kd_cli.app import compare, draw, explain, samples, train, upload

ALL = (draw.PAGE, upload.PAGE, samples.PAGE, compare.PAGE, explain.PAGE, train.PAGE)
