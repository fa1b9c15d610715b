"""Cholec80-CVS: a sheet of scored segments beside Cholec80's videos."""
