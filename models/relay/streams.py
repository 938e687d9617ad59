"""What a random stream is for, so that no two uses share one."""

TESTS, TEACHER, STUDENT, CONTINUED, LABELS, VOTES, CONTEST = range(7)
