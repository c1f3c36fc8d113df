"""Directives for a reader who works along: exercises with their difficulty, and questions to answer before the result.

* `{exercise}` is sphinx-exercise's, with `:difficulty:` (1–5) and `:minutes:`; its solution folds like `{dropdown}`.
* `{predict}` asks for a prediction. The cells tagged `predicted` after it fold; choosing an option opens the fold.
  Without a script the options are a list and the fold opens by hand.
"""

from __future__ import annotations

from typing import Any, ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective
from sphinx_design.shared import create_component
from sphinx_exercise.directive import ExerciseDirective, SolutionStartDirective
from sphinx_exercise.nodes import exercise_enumerable_node, is_extension_node, solution_node

# Every option becomes a button; the first press opens the fold that follows the question.
SCRIPT = """
document.querySelectorAll(".predict").forEach(function (box) {
  const fold = box.parentElement.querySelector(`details[data-question="${box.id}"]`);
  const buttons = Array.from(box.querySelectorAll("li")).map(function (item) {
    const button = document.createElement("button");
    const inside = item.children.length === 1 && item.firstElementChild.matches("p") ? item.firstElementChild : item;
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    button.append(...inside.childNodes);
    button.onclick = function () {
      buttons.forEach(function (other) { other.setAttribute("aria-pressed", String(other === button)); });
      if (fold) { fold.open = true; }
    };
    item.replaceChildren(button);
    return button;
  });
  box.classList.add("ready");
});
""".strip()


def whole_number(low: int, high: int):
    """A directive option's parser: a whole number of this range."""
    def parse(text: str) -> int:
        if not low <= (number := int(text)) <= high:
            raise ValueError(f"{number} is not a number from {low} to {high}")
        return number
    return parse


class Exercise(ExerciseDirective):
    """sphinx-exercise's directive, which here needs a label, a difficulty and minutes, and shows them."""

    option_spec: ClassVar = {
        **ExerciseDirective.option_spec, "difficulty": whole_number(1, 5), "minutes": whole_number(1, 600),
    }  # fmt: skip

    def run(self) -> list[nodes.Node]:
        if missing := [f":{name}:" for name in ("label", "difficulty", "minutes") if name not in self.options]:
            raise self.error(f"an exercise needs {' and '.join(missing)}")
        difficulty, minutes = self.options["difficulty"], self.options["minutes"]
        made = super().run()
        for node in made:
            effort = f"difficulty {difficulty} of 5, {minutes} minute{'s' if minutes > 1 else ''}"
            dots = f'<span aria-hidden="true">{"●" * difficulty}{"○" * (5 - difficulty)}</span>'
            line = nodes.paragraph("", "", nodes.raw("", f"{dots} ", format="html"), nodes.Text(effort),
                                   classes=["exercise-effort"])  # fmt: skip
            node.insert(1, line)
        return made


class SolutionStart(SolutionStartDirective):
    """The solution of exercise `ex-a` has the address `#ex-a-solution`."""

    def run(self) -> list[nodes.Node]:
        self.options.setdefault("label", f"{self.arguments[0]}-solution")
        return super().run()


class PredictNode(nodes.General, nodes.Element):
    """A question, its options, and the id that its fold names."""


class PredictedNode(nodes.General, nodes.Element):
    """The fold around the cells that answer a question."""


class Predict(SphinxDirective):
    """`{predict} Question?` with a list of options; the cells tagged `predicted` that follow are the answer."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True

    def run(self) -> list[nodes.Node]:
        box = PredictNode(number=self.env.new_serialno("predict") + 1)
        text, messages = self.state.inline_text(self.arguments[0], self.lineno)
        box += nodes.paragraph("", "", *text, classes=["predict-question"])
        self.state.nested_parse(self.content, self.content_offset, box)
        lists = [child for child in box if isinstance(child, nodes.bullet_list)]
        if len(lists) != 1 or len(lists[0]) < 2:
            raise self.error("a prediction needs one list of at least two options")
        return [box, *messages]


def is_predicted(node: nodes.Node) -> bool:
    return isinstance(node, nodes.container) and "tag_predicted" in node["classes"]


def read_page(app: Sphinx, doctree: nodes.document) -> None:
    """Fold the predicted cells, and unwrap the sections, all of one id, that sphinx-exercise puts around contents."""
    for box in list(doctree.findall(PredictNode)):
        siblings = box.parent.children
        start = siblings.index(box) + 1
        end = start
        while end < len(siblings) and is_predicted(siblings[end]):
            end += 1
        if end > start:
            fold = PredictedNode("", *siblings[start:end], number=box["number"])
            box.parent[start:end] = [fold]
    for node in list(doctree.findall(is_extension_node)):
        for section in [child for child in node if isinstance(child, nodes.section)]:
            node.replace(section, section.children)


class FinishExercises(SphinxPostTransform):
    """After sphinx-exercise has written the titles: a link to each exercise, and solutions become a `{dropdown}`."""

    default_priority = 100

    def run(self, **kwargs: Any) -> None:
        for node in list(self.document.findall(exercise_enumerable_node)):
            title, anchor = node[0], f"#{node['ids'][0]}"
            words = title.children[1:-1]   # what stands between the parentheses that sphinx-exercise adds
            link = f'<a class="headerlink" href="{anchor}" title="Link to this exercise">#</a>'
            title.children = [*words, nodes.raw("", link, format="html")]
        for node in list(self.document.findall(solution_node)):
            title = nodes.rubric("", "", *node[0].children, ids=node["ids"])
            node["ids"], node["classes"] = [], []
            fold = create_component("dropdown", opened=False, type="dropdown", has_title=True, icon=None, chevron=None,
                                    container_classes=["solution", "sd-mb-3"], title_classes=[], body_classes=[],
                                    children=[title, *node[1:]])  # fmt: skip
            node.replace_self(fold)


def visit_predict(self, node: PredictNode) -> None:
    name = f"predict-{node['number']}"
    self.body.append(f'<div class="predict" id="{name}" role="group" aria-label="Predict first">'
                     '<p class="predict-title">Predict first</p>')  # fmt: skip


def depart_predict(self, node: PredictNode) -> None:
    self.body.append("</div>")


def visit_predicted(self, node: PredictedNode) -> None:
    self.body.append(f'<details class="predicted" data-question="predict-{node["number"]}">'
                     "<summary>Show the result</summary>")  # fmt: skip


def depart_predicted(self, node: PredictedNode) -> None:
    self.body.append("</details>")


def add_script(app: Sphinx, page: str, template: str, context: dict, doctree: nodes.document | None) -> None:
    if doctree and next(doctree.findall(PredictNode), None):
        context["body"] += f"<script>{SCRIPT}</script>"


def purge(app: Sphinx, env: BuildEnvironment, docname: str) -> None:
    """sphinx-exercise keeps what a page said of its solutions when it was read before."""
    getattr(env, "sphinx_exercise_gated_registry", {}).pop(docname, None)


def setup(app: Sphinx) -> dict[str, Any]:
    app.setup_extension("sphinx_exercise")
    app.add_directive("exercise", Exercise, override=True)
    app.add_directive("solution-start", SolutionStart, override=True)
    app.add_directive("predict", Predict)
    app.add_node(PredictNode, html=(visit_predict, depart_predict))
    app.add_node(PredictedNode, html=(visit_predicted, depart_predicted))
    app.add_post_transform(FinishExercises)
    app.connect("doctree-read", read_page)
    app.connect("env-purge-doc", purge)
    app.connect("html-page-context", add_script)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
