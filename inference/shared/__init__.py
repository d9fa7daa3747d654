"""What training and scoring share.

`errors` (what a user can mend), `atomic` (files that appear whole or not at all), `vocabulary` (items and their
numbers), `columns` (names of a table's columns), `system` (processors, standard streams). Nothing is imported here:
most of a short command is start-up.
"""
