"""Recipe: what is done to every sample once, before any plan reads it; part of what a cohort's hash covers."""

from __future__ import annotations

from archipel.vocabulary import Record


class Recipe(Record):
    """Preprocessing that a site chose for a cohort. The default does nothing: plans get what the files hold."""
