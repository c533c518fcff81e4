"""Kill operations at random moments, and see that nothing is lost and that the next run completes them.

``python -m tests.chaos --rounds 200`` does it for every operation; a new one is a class in `operations`.
"""
