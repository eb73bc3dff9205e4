"""The page of ``kd app``: a room for each of its pages, and what they share. Needs the extra ``app``."""
