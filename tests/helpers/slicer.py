"""What an annotator does in 3D Slicer, by the client of its extension, with the parameters that the extension sends.

It runs in the environment of MONAI Label: ``slicer.py EXTENSION ADDRESS TOKEN MODEL IMAGE NEW_IMAGE LABEL FOLDER``.
"""

import filecmp
import json
import sys
import time

extension, address, token, model, image, new_image, label, folder = sys.argv[1:]
sys.path.insert(0, extension)
from MONAILabelLib import MONAILabelClient  # noqa: E402

login = {}


def client():
    """A new client for each request, as the extension has, which logs in once."""
    new = MONAILabelClient(address, folder, "user-xyz")
    if new.auth_enabled():
        new.update_auth(login)
        if not login or not new.auth_valid_token():
            login.update(new.auth_token("user-xyz", token))
            new.update_auth(login)
    return new


def config(section, name):
    values = info[section][name].get("config", {})
    return {key: value[0] if isinstance(value, list) else value for key, value in values.items()}


def infer(*, session=None):
    params = {**config("models", model), "result_extension": ".nrrd", "result_dtype": "uint8"}
    return client().infer(model, image, params, session_id=session)[1]["label_names"]


info = client().info()
done = {"infer": infer(), "next_sample": client().next_sample("first", config("strategies", "first"))["id"]}
session = client().create_session(new_image)["session_id"]
done["session"] = client().get_session(session)["name"] == session
done["infer_session"] = infer(session=session)
client().remove_session(session)
done["upload"] = client().upload_image(new_image, "new image (1)")["image"]
client().save_label("new image (1)", label, "", {"label_info": [{"name": "stem", "idx": 1}]})
done["download"] = filecmp.cmp(client().download_label("new image (1)", "final"), label, shallow=False)
done["datastore"] = sorted(client().datastore()["objects"])
done["train_start"] = client().train_start(model, config("trainers", model))["status"]
done["train_status"] = client().train_status()["status"]
while not client().train_status(check_if_running=True):
    time.sleep(0.1)  # its process is being started
done["train_stop"] = client().train_stop()["status"]
print(json.dumps(done))
