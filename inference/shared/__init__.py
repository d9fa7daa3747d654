"""What training and scoring share.

`errors` (mistakes that a user can mend), `atomic` (files that appear whole or not at all, and locks), `vocabulary`
(items and their numbers), `columns` (names of a table's columns), `system` (processors, standard streams). Nothing is
imported here: most of a short command is start-up.
"""
