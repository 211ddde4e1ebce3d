"""The kopf operator: compiles subscriptions from Kubernetes into the dispatcher's configuration."""
