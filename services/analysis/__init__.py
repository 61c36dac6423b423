"""What an analysis is, and where it is kept.

Shared by gateway, preprocessor and stacker. The record of every analysis lives in Postgres (`record/`, `tables.py`),
its bytes in the blob store (`blobs.py`); Redis is only a doorbell (`doorbell.py`) that carries ids. Losing the doorbell
loses nothing: the sweeper rings again for every analysis that the record says is due.
"""
