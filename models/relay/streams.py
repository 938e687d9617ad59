"""What a random stream is for, so that no two uses share one."""

TESTS, TEACHER, STUDENT, CONTINUED, LABELS, VOTES = range(6)
