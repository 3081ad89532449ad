"""The bus: commands and events through an outbox and an inbox, queries, telemetry; importing this imports nothing."""
