"""The gate against a real nats-server: who comes in, what he may do there, and who is put out."""
