"""Subscriptions and secrets that users keep by REST: encrypted in Redis, and in force in every process."""
