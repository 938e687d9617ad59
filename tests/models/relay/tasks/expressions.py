"""A reader of expressions and a step-by-step reduction of them, as trees; what the arithmetic is checked against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass
class Number:
    value: Any


@dataclass
class Operation:
    operator: str
    left: Number | Operation
    right: Number | Operation
    bracketed: bool = False


Tree = Number | Operation


def parse(words: list[str], number: Callable[[str], Any] = int) -> Tree:
    """expression = product {(+|-) product};  product = factor {(*|/) factor};  factor = number | ( expression )."""
    rest = list(words)

    def chain(operators: str, part: Callable[[], Tree]) -> Tree:
        tree = part()
        while rest and rest[0] in operators:
            operator = rest.pop(0)
            tree = Operation(operator, tree, part())
        return tree

    def factor() -> Tree:
        word = rest.pop(0)
        if word != "(":
            return Number(number(word))
        tree = chain("+-", lambda: chain("*/", factor))
        assert rest.pop(0) == ")"
        assert isinstance(tree, Operation)
        tree.bracketed = True
        return tree

    tree = chain("+-", lambda: chain("*/", factor))
    assert not rest
    return tree


def modular(modulus: int) -> Callable[[str, int, int], int]:
    """Operations modulo a prime; division by search."""

    def compute(operator: str, left: int, right: int) -> int:
        if operator == "/":
            if right == 0:
                raise ZeroDivisionError
            return next(number for number in range(modulus) if number * right % modulus == left)
        return {"+": left + right, "-": left - right, "*": left * right}[operator] % modulus

    return compute


def value(tree: Tree, compute: Callable[[str, Any, Any], Any]) -> Any:
    if isinstance(tree, Number):
        return tree.value
    return compute(tree.operator, value(tree.left, compute), value(tree.right, compute))


def reduce_leftmost(tree: Tree, compute: Callable[[str, Any, Any], Any]) -> Tree:
    """The tree after the leftmost operation of two numbers has become a number."""
    assert isinstance(tree, Operation)
    if isinstance(tree.left, Operation):
        return Operation(tree.operator, reduce_leftmost(tree.left, compute), tree.right, tree.bracketed)
    if isinstance(tree.right, Operation):
        return Operation(tree.operator, tree.left, reduce_leftmost(tree.right, compute), tree.bracketed)
    return Number(compute(tree.operator, tree.left.value, tree.right.value))


def write(tree: Tree) -> str:
    if isinstance(tree, Number):
        return str(tree.value)
    text = f"{write(tree.left)} {tree.operator} {write(tree.right)}"
    return f"( {text} )" if tree.bracketed else text
