"""nbgrader's settings for this course: where files lie, and that submissions run sealed."""

from pathlib import Path

from rnncourse.grading.nbgrader_plug import configure

c = get_config()  # noqa: F821 - nbgrader provides it
root = Path(__file__).resolve().parent
(root / "grading").mkdir(exist_ok=True)

c.CourseDirectory.course_id = "vanilla-rnns"
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "exercises"
c.CourseDirectory.submitted_directory = "grading/submitted"
c.CourseDirectory.autograded_directory = "grading/autograded"
c.CourseDirectory.feedback_directory = "grading/feedback"
c.CourseDirectory.solution_directory = "grading/solution"
c.CourseDirectory.db_url = f"sqlite:///{root / 'grading' / 'gradebook.db'}"
c.GenerateAssignment.force = True  # exercises/ is in the repository: make it anew, do not skip it
c.GenerateFeedback.force = True  # marks may have changed since

configure(c, root)
c.SealedExecute.timeout = 15  # every cell of this course takes well under a second
