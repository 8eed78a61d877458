"""The presenters: core values as tables, bars and trees on a console; no other I/O."""
