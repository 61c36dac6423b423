"""The three services and what they share: one folder each."""
