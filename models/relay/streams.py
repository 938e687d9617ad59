"""What a random stream is for, so that no two stages share one."""

TEACHER, STUDENT, CONTINUED, LABELS, VOTES = 1, 2, 3, 4, 5
