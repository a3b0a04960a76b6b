"""Whether tenants can see one another: the published procedure, against a live deployment."""
