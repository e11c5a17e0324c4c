"""A report of run folders: what they show, how sure it is, and what it cost."""
