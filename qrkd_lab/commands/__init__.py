"""The commands of ``python -m qrkd_lab``: each its arguments, and the call it stands for."""
