"""Tasks, training, evaluation and the commands."""

import os

os.environ["MPLBACKEND"] = "agg"  # pictures are files; what notebooks export may not be installed here
