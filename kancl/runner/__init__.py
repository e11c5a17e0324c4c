"""From overrides to run folders: compose, check, build, train, compare.

Nothing is imported here: what was typed is read, and refused, without torch.
"""
