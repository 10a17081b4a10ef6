"""The rooms behind the ingest door: reading HTTP, the formats, the buffer and the writers. No Django per request."""
