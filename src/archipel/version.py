"""The version of this installation; everything that names it takes it from here."""

VERSION = "0.1.0"
