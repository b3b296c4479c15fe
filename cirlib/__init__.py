"""Companion of "Searching for Controllable Image Restoration Networks" (ICCV 2021)."""
