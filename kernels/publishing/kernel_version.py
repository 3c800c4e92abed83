"""Prints the number of a kernel's newest version, the sha256 of its code and its sources, as JSON.

    python kernels/publishing/kernel_version.py OWNER/SLUG

No command of `kaggle` prints this number when the answer to a push was lost, so the kaggle package's own client is
asked, with the credentials that it finds for itself.
"""

import hashlib
import json
import sys


def code_sha256(source: str) -> str:
    """Of a script's text, or of a notebook's code and text cells: what Kaggle keeps as it was sent."""
    if source.lstrip().startswith("{"):
        cells = json.loads(source)["cells"]
        source = "\0".join("".join(cell["source"]) for cell in cells)
    return hashlib.sha256(source.replace("\r\n", "\n").rstrip().encode()).hexdigest()


def main(kernel: str) -> int:
    import kaggle  # logs in by itself
    from kaggle.api.kaggle_api_extended import ApiGetKernelRequest, format_http_error, print_auth_help
    from requests.exceptions import HTTPError, RequestException

    if not kaggle.api._authenticated:
        kaggle.api.authenticate()
    request = ApiGetKernelRequest()
    request.user_name, request.kernel_slug = kernel.split("/")
    try:
        with kaggle.api.build_kaggle_client() as client:
            answer = client.kernels.kernels_api_client.get_kernel(request)
    except HTTPError as error:
        if error.response is not None and error.response.status_code == 401:
            print_auth_help()
        else:
            print(format_http_error(error), file=sys.stderr)
        return 1
    except RequestException as error:
        print(error, file=sys.stderr)
        return 1
    facts = answer.metadata
    sources = sorted([*(facts.dataset_data_sources or []), *(facts.competition_data_sources or [])])
    digest = code_sha256(answer.blob.source)
    print(json.dumps({"version": facts.current_version_number, "code_sha256": digest, "sources": sources}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
