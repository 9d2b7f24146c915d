"""What is mounted in the student's sandbox in place of packages that hold answers."""
