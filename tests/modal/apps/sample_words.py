"""A module that the sample app takes along."""

WORDS = ("dormouse", "hazel")
