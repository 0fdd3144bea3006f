"""Lets the tests of this room's folders import what stands here: ``volumes``."""
