"""What `coverage.py` is made of: the models, what each is held to, the peer, and the rows."""
