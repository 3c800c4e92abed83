"""What Kaggle refuses, as far as it is known: submissions to a code competition, upon kernels, upon datasets.

Answers are what the API sends (camelCase, enums by name). The rules are those that the kaggle client's documentation,
its source and its issues tell; the real server may know more.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kaggle_kernels import Kernels, Run
from kaggle_state import Refusal, now, page

A_DAY = 5  # submissions
OWN_WORDS = ("Notebook Timeout",)  # what a run may end with that is also the submission's error


class Rules(Kernels):
    """The state of one made-up Kaggle below `root`, and one method for each request that changes or reads it.

    score(path of a submission.csv) -> (public, private), raises on a file that cannot be scored. A scored submission
    shows after `score_polls` requests for it.
    """

    def __init__(
        self,
        root: Path,
        owner: str,
        competition: str,
        run: Run,
        score: Callable[[Path], tuple[float, float]],
        score_polls: int = 1,
        **polls: int,
    ) -> None:
        super().__init__(root, owner, competition, run, **polls)
        self.score, self.score_polls = score, score_polls
        self.submissions_a_day = A_DAY

    def check_competition(self, name: str) -> None:
        if name != self.competition:
            raise Refusal(404, f"Competition {name} was not found")
        if not self.rules_accepted:
            raise Refusal(403, "You must accept this competition's rules before you can continue")

    def get_submission_limits(self, body: dict[str, Any]) -> dict[str, Any]:
        dates = [one["date"] for one in self.state["submissions"]]
        today = sum(date[:10] == now()[:10] for date in dates)
        left = max(self.submissions_a_day - today, 0)
        return {"numToday": today, "numTotal": len(dates), "numAllowedNow": left, "limitedByTotal": False}

    def submitted(self, kernel: str, number: Any) -> dict[str, Any]:
        owner, slug = kernel.split("/")
        try:
            return self.session({"userName": owner, "kernelSlug": slug, "versionLabel": number})
        except Refusal as refusal:
            raise Refusal(404, f"Notebook not found: {refusal}") from refusal

    def create_code_submission(self, body: dict[str, Any]) -> dict[str, Any]:
        self.check_competition(body["competitionName"])
        kernel, file = f"{body['kernelOwner']}/{body['kernelSlug']}", body.get("fileName")
        version = self.submitted(kernel, body.get("kernelVersion"))
        reasons = {
            "Submission not allowed: Notebook version is not complete": version["status"] != "COMPLETE",
            "Submission not allowed: Notebooks with internet access are not allowed": version["enableInternet"],
            "Submission not allowed: the competition is not a data source": not version["competitions"],
            "Submission not allowed: You have reached your daily submission limit": (
                self.get_submission_limits(body)["numAllowedNow"] == 0
            ),
            f"Output file {file} was not found": file not in version.get("outcome", {"files": {}})["files"],
        }
        for reason, holds in reasons.items():
            if holds:
                raise Refusal(400, reason)
        submission = {
            "ref": self.number(),
            "date": now(),
            "description": body.get("submissionDescription", ""),
            "fileName": file,
            "status": "PENDING",
            "submittedBy": body["kernelOwner"],
            "publicScore": "",
            "privateScore": "",
            "errorDescription": None,
            "polls": 0,
            "kernel": kernel,
            "version": body.get("kernelVersion"),
        }
        self.state["submissions"].insert(0, submission)
        self.in_background(lambda: self.finish_submission(submission))
        return {"message": f"Successfully submitted to {self.competition}", "ref": submission["ref"]}

    def finish_submission(self, submission: dict[str, Any]) -> None:
        """Run the kernel on the hidden test and score what it leaves."""
        outcome = self.run_safely(self.submitted(submission["kernel"], submission["version"]), True)
        result: dict[str, Any] = {"status": "ERROR"}
        file = outcome["files"].get(submission["fileName"])
        if not outcome["ok"]:
            known = outcome["message"] in OWN_WORDS
            result["errorDescription"] = outcome["message"] if known else "Notebook Threw Exception"
        elif file is None:
            result["errorDescription"] = "Submission CSV Not Found"
        else:
            try:
                public, private = self.score(Path(file))
                result = {"status": "COMPLETE", "publicScore": f"{public:.5f}", "privateScore": f"{private:.5f}"}
            except Exception as error:  # what a scorer says of a file, whatever it is, is Kaggle's answer to it
                result["errorDescription"] = f"Submission Scoring Error: {error}"
        with self.lock:
            submission["result"] = result
            self.save()

    def shown(self, submission: dict[str, Any]) -> dict[str, Any]:
        if "result" in submission:
            submission["polls"] += 1
        if submission["polls"] > self.score_polls:
            submission |= submission["result"]
        return {name: value for name, value in submission.items() if name not in ("polls", "result")}

    def list_submissions(self, body: dict[str, Any]) -> dict[str, Any]:
        self.check_competition(body["competitionName"])
        before = (int(body.get("page") or 1) - 1) * int(body.get("pageSize") or 20)
        listed, following = page(self.state["submissions"], {**body, "pageToken": body.get("pageToken") or before})
        return {"submissions": [self.shown(one) for one in listed], "nextPageToken": following}

    def get_submission(self, body: dict[str, Any]) -> dict[str, Any]:
        for one in self.state["submissions"]:
            if one["ref"] == body["ref"]:
                return self.shown(one)
        raise Refusal(404, "Submission not found")
