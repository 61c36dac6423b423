"""Tells the receivers of webhooks that an analysis has ended: signed, tried again, never towards where it must not go.

`analysis/webhooks.py` holds what is to be told; `delivery` takes it from there; `addresses` decides where messages may
go; `posting` sends one; `signature` signs it.
"""
