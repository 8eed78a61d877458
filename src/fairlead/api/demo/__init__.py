"""The demo: a year of real flights through the whole loop, watched live."""

from fairlead.api.demo.story import run

__all__ = ["run"]
