import hashlib
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.shared.errors import UserError
from inference.shared.vocabulary import MISSING, Vocabulary

ids = st.text(st.characters(codec="utf-8", exclude_characters="\n"), min_size=1)


def test_ids_stay_as_they_were_written():
    vocabulary = Vocabulary(["7", "007", " 7"])
    assert sorted(vocabulary.terms()) == [" 7", "007", "7"]
    assert len({vocabulary.number(term) for term in (" 7", "007", "7")}) == 3


def test_numbers_follow_the_order_of_the_utf8_bytes():
    assert Vocabulary(["b", "ä", "a", "🛒", "￿"]).terms() == ["a", "b", "ä", "￿", "🛒"]


@given(st.sets(ids))
def test_text_gives_the_vocabulary_back(terms):
    vocabulary = Vocabulary(terms)
    assert Vocabulary.from_text(vocabulary.to_text()) == vocabulary
    assert [vocabulary.number(term) for term in vocabulary.terms()] == list(range(len(terms)))
    assert vocabulary.to_text().encode().split(b"\n") == sorted(term.encode() for term in terms) or not terms


@given(st.sets(ids), ids)
def test_an_unknown_id_is_missing(terms, other):
    assert (Vocabulary(terms - {other}).number(other)) == MISSING


@pytest.mark.parametrize("term", [None, 1.5, b"a", True])
def test_an_id_that_is_neither_text_nor_integer_is_an_error(term):
    with pytest.raises(UserError, match=f"ids as text or integers, got {re.escape(repr(term))}"):
        Vocabulary(["a", "b"]).numbers(["a", term])


def test_integers_are_the_text_that_they_are_written_as():
    vocabulary = Vocabulary(["7", "07", "b"])
    assert vocabulary.numbers([7, "07", np.int64(7), 8]).tolist() == [*vocabulary.numbers(["7", "07", "7"]), MISSING]


def test_the_digest_is_that_of_the_newline_joined_text():
    assert Vocabulary(["b", "a"]).sha256() == hashlib.sha256(b"a\nb").hexdigest()


@pytest.mark.parametrize("terms", [["a", "a"], ["a", ""], ["a", "b\nc"]])
def test_ids_that_are_twice_empty_or_of_two_lines_are_refused(terms):
    with pytest.raises(UserError):
        Vocabulary(terms)


@pytest.mark.parametrize("text", ["b\na", "a\na", "\na", "a\n"])
def test_a_damaged_text_is_refused(text):
    with pytest.raises(UserError, match="damaged"):
        Vocabulary.from_text(text)


@pytest.mark.parametrize("number", [-1, 2])
def test_a_number_outside_the_vocabulary_has_no_term(number):
    with pytest.raises(IndexError):
        Vocabulary(["a", "b"]).term(number)
