"""What runs inside the sandboxes.

This package is mounted on its own, under the name ``inside``, so it imports nothing of the course:
only the standard library, NumPy, IPython (student side) and, where an assignment uses it, torch.
"""
