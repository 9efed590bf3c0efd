"""What an agent's arguments can reach, and what they cannot."""

import os
import socket

import pytest
from langchain_core.load import dumps, loads
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from PIL import Image

from langchain_internvl import MediaPolicy, image_block, video_block
from langchain_internvl.errors import MediaError, MediaFetchError, MediaTooLargeError
from langchain_internvl.media.images import load_rgb
from langchain_internvl.tools.media_access import resolve_image, resolve_video


@pytest.fixture
def folders(tmp_path):
    """A folder that is open to the agent, and one beside it that is not."""
    for name, colour in (("open", "red"), ("closed", "blue"), ("open/inner", "green")):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 3), colour).save(tmp_path / name / "a.png")
    return tmp_path


@pytest.fixture
def policy(folders):
    return MediaPolicy(roots=[folders / "open"])


def colour(reference, policy, state=None):
    return load_rgb(resolve_image(reference, policy, state), policy).getpixel((0, 0))


RED, GREEN, BLUE = (255, 0, 0), (0, 128, 0), (0, 0, 255)


def test_files_of_a_root_are_read_by_any_of_their_names(folders, policy):
    assert colour("a.png", policy) == RED
    assert colour("inner/../a.png", policy) == RED
    assert colour(" inner/a.png ", policy) == GREEN
    assert colour(str(folders / "open/a.png"), policy) == RED
    (folders / "open/link.png").symlink_to("inner/a.png")
    assert colour("link.png", policy) == GREEN


def test_links_that_lead_in_circles_are_no_files(folders, policy):
    (folders / "open/loop").symlink_to("loop")
    for name in ("loop", "loop/a.png"):
        with pytest.raises(MediaError, match=r"no such file|only files in"):
            resolve_image(name, policy)


def test_several_roots_are_searched_in_their_order(folders):
    (folders / "closed/b.png").write_bytes((folders / "closed/a.png").read_bytes())
    policy = MediaPolicy(roots=[folders / "open", folders / "closed"])
    assert colour("a.png", policy) == RED
    assert colour("b.png", policy) == BLUE
    assert colour("../closed/a.png", policy) == BLUE


def test_a_root_may_itself_be_a_link(folders):
    (folders / "door").symlink_to("open")
    assert colour("a.png", MediaPolicy(roots=[folders / "door"])) == RED


@pytest.mark.parametrize(
    "name",
    [
        "../closed/a.png",
        "../closed/none.png",
        "inner/../../closed/a.png",
        "{closed}/a.png",
        "{closed}/none.png",
        "/etc/passwd",
        "/proc/self/environ",
        "/dev/zero",
        "link.png",
        "folder/a.png",
        "//server/share/a.png",
        "/\\server\\share\\a.png",
        "\\/server/share/a.png",
        "a" * 300 + ".png",
        "\ud800.png",
        "\\\\server\\share\\a.png",
        "a.png\0.jpg",
        "~/a.png/../../../../../../etc/passwd",
        "",
    ],
)
def test_what_is_outside_is_refused_in_the_same_words(name, folders, policy):
    """Whether it exists or not, so that nobody can ask what there is."""
    (folders / "open/link.png").symlink_to("../closed/a.png")
    (folders / "open/folder").symlink_to(folders / "closed")
    with pytest.raises(MediaError) as caught:
        resolve_image(name.format(closed=folders / "closed"), policy)
    assert caught.value.reason.startswith(f"only files in {folders / 'open'} may be read")


def test_without_roots_no_file_is_read(folders):
    for name in (str(folders / "open/a.png"), "a.png"):
        with pytest.raises(MediaError, match="files may not be read here"):
            resolve_image(name, MediaPolicy())
    with pytest.raises(MediaError, match="files may not be read here"):
        resolve_image("a.png", MediaPolicy(roots=[]))


@pytest.mark.parametrize(
    "name", ["file:///etc/passwd", "FILE:a.png", "ftp://x/a.png", "gopher://x", "image/png;base64:"]
)
def test_only_http_is_fetched(name, policy):
    with pytest.raises(MediaError):
        resolve_image(name, policy)


@pytest.mark.parametrize("data", ["data:image/png;base64,AAAA", "A" * 5000])
def test_pictures_are_not_passed_as_data(data, policy):
    with pytest.raises(MediaError, match="not passed as data"):
        resolve_image(data, policy)


def test_what_is_no_regular_file_is_refused_at_once(folders, policy, monkeypatch):
    os.mkfifo(folders / "open/pipe")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(folders / "open")  # names of sockets are short
        server.bind("socket")
        for name in ("pipe", "inner", "socket"):
            with pytest.raises(MediaError, match=r"not a regular file|cannot be read"):
                resolve_image(name, policy)


def test_large_files_are_refused_unread(folders, policy):
    with (folders / "open/large.png").open("wb") as file:
        file.truncate(10**9)
    with pytest.raises(MediaTooLargeError, match="larger than 1000 bytes"):
        resolve_image("large.png", policy.model_copy(update={"max_bytes": 1000}))


def test_a_folder_swapped_for_a_link_while_it_is_opened(folders, policy, monkeypatch):
    """Between the look at a path and its opening, another process may change it."""
    real_open = os.open

    def swap(path, flags):
        if str(path).endswith("inner/a.png"):
            (folders / "open/inner").rename(folders / "open/old")
            (folders / "open/inner").symlink_to(folders / "closed")
        return real_open(path, flags)

    monkeypatch.setattr(os, "open", swap)
    with pytest.raises(MediaError, match="changed while it was being opened"):
        resolve_image("inner/a.png", policy)


def test_urls_are_fetched_under_the_policy():
    with pytest.raises(MediaFetchError, match="not a public address"):
        resolve_image("http://127.0.0.1:9/a.png", MediaPolicy()).read(MediaPolicy())
    policy = MediaPolicy(allowed_hosts=["good.example", ".fine.example"])
    for host in ("evil.example", "good.example.evil.example", "notfine.example"):
        with pytest.raises(MediaFetchError, match=r"not in MediaPolicy\.allowed_hosts"):
            resolve_image(f"https://{host}/a.png", policy).read(policy)
    for host in ("good.example", "GOOD.example.", "fine.example", "a.fine.example"):
        assert policy.allows_host(host)


def message(colour):
    return image_block(Image.new("RGB", (4, 3), colour))


@pytest.fixture
def conversation():
    return [
        HumanMessage("Hello"),
        HumanMessage([message("red"), {"type": "text", "text": "and"}, message("green")]),
        AIMessage("I see."),
        ToolMessage([{"type": "text", "text": "here"}, message("blue")], tool_call_id="1"),
        HumanMessage([{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]),
    ]


@pytest.mark.parametrize("kind", [dict, list, object])
def test_handles_name_the_pictures_of_a_conversation(kind, conversation):
    state = {"messages": conversation}
    if kind is list:
        state = conversation
    elif kind is object:
        state = type("State", (), {"messages": conversation})()
    policy = MediaPolicy()
    said = {name: colour(name, policy, state) for name in ("image:1", "image:2", "image:3", "last")}
    assert said == {"image:1": RED, "image:2": GREEN, "image:3": BLUE, "last": BLUE}
    assert colour("Image 2", policy, state) == colour("image-2".replace("-", ":"), policy, state)


def test_handles_of_nothing_say_what_there_is(conversation):
    with pytest.raises(MediaError, match="shows no image; give the path or URL"):
        resolve_image("last", MediaPolicy())
    for name in ("image:0", "image:4"):
        with pytest.raises(MediaError, match=r"shows 3 image\(s\); use image:1 to image:3"):
            resolve_image(name, MediaPolicy(), {"messages": conversation})
    with pytest.raises(MediaError, match="shows no video"):
        resolve_video("video:1", MediaPolicy(), {"messages": conversation})


def test_a_handle_of_the_other_kind_is_refused(conversation):
    with pytest.raises(MediaError, match="is no image; ask_video takes it"):
        resolve_image("video:1", MediaPolicy(), {"messages": conversation})
    with pytest.raises(MediaError, match="describe_image takes it"):
        resolve_video("image:1", MediaPolicy(), {"messages": conversation})


def test_a_picture_at_another_provider_keeps_its_number(conversation):
    elsewhere = HumanMessage([{"type": "image", "file_id": "file-1"}])
    state = {"messages": [elsewhere, *conversation]}
    assert colour("image:2", MediaPolicy(), state) == RED
    with pytest.raises(MediaError, match="kept at another provider"):
        resolve_image("image:1", MediaPolicy(), state)


def test_an_image_whose_bytes_are_gone_keeps_its_number(conversation):
    """The conversation was recorded by reference, and read back after a restart."""
    gone = {"type": "image", "id": f"sha256:{'0' * 64}", "mime_type": "image/png", "size": 7}
    state = {"messages": [HumanMessage([gone]), *conversation]}
    with pytest.warns(UserWarning, match="a reference from a trace"):
        assert colour("image:2", MediaPolicy(), state) == RED
    with (
        pytest.raises(MediaError, match="its bytes were not stored"),
        pytest.warns(UserWarning, match="a reference from a trace"),
    ):
        resolve_image("image:1", MediaPolicy(), state)


def test_a_policy_with_roots_can_be_stored(folders):
    policy = MediaPolicy(roots=[folders / "open"], allowed_hosts=["a.example"])
    again = loads(
        dumps(policy), allowed_objects=[MediaPolicy], valid_namespaces=["langchain_internvl"]
    )
    assert again == policy
    assert MediaPolicy(roots=folders).roots == (str(folders),)


def test_videos_of_a_conversation(conversation):
    frames = video_block([Image.new("RGB", (4, 3), one) for one in ("red", "blue")])
    state = {"messages": [*conversation, HumanMessage([frames])]}
    assert len(resolve_video("video:1", MediaPolicy(), state).frames) == 2
    assert resolve_video("last", MediaPolicy(), state).source is None


def test_a_path_in_a_message_is_held_to_the_roots_too(folders, policy):
    block = {"type": "image", "path": str(folders / "closed/a.png")}
    state = {"messages": [ToolMessage([block], tool_call_id="1")]}
    with pytest.raises(MediaError, match="only files in"):
        resolve_image("image:1", policy, state)
