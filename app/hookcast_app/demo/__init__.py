"""What `make run` shows: the real server with the sample subscriptions, a receiver that verifies, a live subscriber.

One process: however it ends, nothing of it is left, and the next start finds its ports free.
"""
