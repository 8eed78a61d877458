"""The ground of the security suite: a plant that is only talked to."""

from tests.serve.conftest import served

__all__ = ["served"]
