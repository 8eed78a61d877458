"""Programs that people take away: they run on a bare Python and import nothing of Fairlead."""
