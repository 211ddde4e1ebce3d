"""Deliveries: leased lanes, attempts, their outcomes, and what the API shows of them."""
