"""What LesionLens says to, and hears from, the networks: wire messages, client, embedded model server."""
