"""Tests measure and train networks so small that a second thread only gets in their way, above all beside others."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported, here and in processes started from here
