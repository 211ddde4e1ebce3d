"""Events in: from an HTTP request to one atomic write of the event, its deliveries and its publications."""
