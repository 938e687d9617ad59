"""A task of one's own: the largest of a row of numbers."""

from models.relay.tasks.words import TaskInWords


class Largest(TaskInWords):
    """`3 9 4 =` becomes `9 4 =`, and that `9`: of the first two numbers the larger one stays."""

    numbers: int = 20  # what a run may set

    name = "largest"
    length_unit = "comparisons"

    @property
    def symbols(self):
        return ("=", *map(str, range(self.numbers)))

    def loops(self, length):
        return length

    def problem(self, rng, length):
        return " ".join(map(str, rng.integers(self.numbers, size=length + 1))) + " ="

    def rounds(self, problem):
        first, second, *others = problem.split()
        larger = max(first, second, key=int)
        return [larger] if others == ["="] else [(left := " ".join([larger, *others])), *self.rounds(left)]


NOT_A_TASK = 3
