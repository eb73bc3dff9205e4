"""What the server was told when it started. The page's script runs anew for every click, and finds it here."""

from kd_cli.config import DataConfig, DeviceName, RunConfig

data = DataConfig()
"""The data set."""

run = RunConfig(device=DeviceName.cpu)
"""Where the networks are. What visitors wait for is computed on the CPU."""
