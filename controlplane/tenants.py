"""What traces and tables call a domain."""

from ..directory import Domain


def label(domain: Domain) -> str:
    """A tenant's name; what divides its cache further is not told."""
    return f"{domain.organisation}/{domain.workspace}"
