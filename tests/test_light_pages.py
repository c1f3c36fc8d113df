import base64
import re
from pathlib import Path

import light_pages as light

INLINE = '<p><span class="math notranslate nohighlight">\\(x_1 &lt; 2\\)</span></p>'
NUMBERED = ('<div class="math notranslate nohighlight" id="equation-a">\n<span class="eqno">(1)<a href="#equation-a">'
            "#</a></span>\\[c = \\sum_i h_i\\]</div>")
AMS = '<div class="amsmath math notranslate nohighlight" id="b">\n\\begin{align}\na &amp;= b\n\\end{align}</div>'


def test_equations_are_found_in_each_of_their_forms():
    found = [light.split_tex(match["tex"]) for match in light.EQUATION.finditer(INLINE + NUMBERED + AMS)]
    assert found == [("x_1 < 2", False), ("c = \\sum_i h_i", True), ("\\begin{align}\na &= b\n\\end{align}", True)]


def test_scripts_wait_but_for_the_one_that_inline_scripts_need():
    page = ('<script src="../_static/scripts/fontawesome.js?digest=1"></script>\n<script src="a.js"></script>'
            '<script src="_static/documentation_options.js"></script><script>let a = 1;</script>'
            '<script defer="defer" src="../_static/../frontend/mathjax/tex-chtml.js"></script>')
    light_page = light.lighten(page)
    assert light_page == ('<script defer src="a.js"></script><script src="_static/documentation_options.js"></script>'
                          "<script>let a = 1;</script>")
    assert light.lighten(light_page) == light_page


def test_purge_drops_only_rules_for_classes_nobody_mentions():
    css = ('/* note */ @charset "x"; a{b:"}"} .used,.gone{c:url(data:image/svg+xml;base64,xx)} .gone{d:e} '
           "@media (x){.gone{f:g} .used:not(.gone){h:i}} @media print{.gone{j:k}} @keyframes gone{from{l:m}}")
    assert light.purge(css, {"used"}) == ('@charset "x";a{b:"}"}.used{c:url(data:image/svg+xml;base64,xx)}'
                                          "@media (x){.used:not(.gone){h:i}}@keyframes gone{from{l:m}}")


def test_style_sheets_become_one_and_a_second_time_changes_nothing(tmp_path: Path):
    for name, text in {"a.css": "p{q:r}", "styles/b.css": '@import "../a.css"; .x{y:url("../z.png")}'}.items():
        (tmp_path / "_static" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "_static" / name).write_text(text)
    page = tmp_path / "chapters/c.html"
    pages = {page: '<link rel="stylesheet" type="text/css" href="../_static/styles/b.css?v=1" />\n<p class="x">'}
    light.bundle_styles(pages, tmp_path)
    once = pages[page]
    bundle = next((tmp_path / "_static").glob("book-*.css"))
    assert bundle.read_text() == 'p{q:r}.x{y:url("z.png")}'
    assert f'href="../_static/{bundle.name}?v=' in once and 'data-sheets="styles/b.css"' in once
    light.bundle_styles(pages, tmp_path)
    assert pages[page] == once


def test_icons_in_use_are_kept():
    css = r'.fa-rocket:before{content:"\f135"}.fa-map:before{content:"\f279"}:root{--pst-icon-bell:"\f0f3"}'
    assert light.icon_codes(css, {"fa-rocket"}) == {0xF135, 0xF0F3}


def test_colours_are_light_without_a_script_and_on_paper():
    css = 'html[data-theme="light"] a{b:c}html[data-theme=dark] a{b:d}@media (x){html[data-theme="dark"]{e:f}}p{g:h}'
    assert light.light_by_default(css) == (
        "html:not([data-theme=dark]) a{b:c}@media print{html[data-theme] a{b:c}}"
        "@media screen{html[data-theme=dark] a{b:d}}"
        '@media (x){@media screen{html[data-theme="dark"]{e:f}}}p{g:h}')


def test_apostrophes_and_languages_are_set_in_text_only():
    table = ('<table class="dataframe"><thead><tr><th></th><th>French</th></tr></thead>'
             "<tbody><tr><th>0</th><td>l'an</td></tr></tbody></table>")
    page = f"<article><p>GRU's g2p-en&#x27;s 'it' 小 牛.</p><pre>x's 小</pre>{table}</article>"
    made = light.set_type(page)
    assert made == ("<article><p>GRU’s g2p-en’s 'it' <span lang=\"zh-Hans\">小 牛</span>.</p><pre>x's 小</pre>"
                    + table.replace("<td>", '<td lang="fr">') + "</article>")
    assert light.set_type(made) == made


def test_a_table_has_typographic_headings_and_marks_its_chinese_but_leaves_what_was_printed():
    table = ('<table id="T_1"><thead><tr><th>the model\'s</th><th>Chinese</th></tr></thead>'
             "<tbody><tr><td>l's 牛 &lt; 1</td><td>牛</td></tr></tbody></table>")
    made = light.set_type(f"<article>{table}</article>")
    assert "<th>the model’s</th>" in made
    assert "<td>l's <span lang=\"zh-Hans\">牛</span> &lt; 1</td>" in made and '<td lang="zh-Hans">牛</td>' in made
    assert light.set_type(made) == made


def test_code_keeps_only_the_spans_that_have_a_colour():
    css = ""
    for theme, own in ("light", "#080808"), ("dark", "#f8f8f2"):
        css += f"""html[data-theme="{theme}"] .highlight {{ background: #fefefe; color: {own} }}
            html[data-theme="{theme}"] .highlight .n {{ color: {own} }} /* Name */
            html[data-theme="{theme}"] .highlight .gs {{ font-weight: bold; color: {own} }}
            html[data-theme="{theme}"] .highlight .k {{ color: {"#080808" if theme == "light" else "red"} }}"""
    looks = light.token_looks(css)
    assert looks["n"] == {"", "n"} and looks["k"] == {"k"} and looks["gs"] == {"gs"}
    page = ('<span class="n">a</span><div class="highlight"><pre><span></span><span class="k">if</span> '
            '<span class="n">x&lt;y</span><span class="o">+</span></pre></div>')
    made = light.fewer_spans(page, looks)
    assert made == page.replace('<span class="n">x&lt;y</span><span class="o">+</span>', "x&lt;y+")
    assert light.fewer_spans(made, looks) == made


def test_neighbours_of_one_colour_share_a_span():
    code = '<div class="highlight"><pre>{}</pre></div>'.format
    strings = frozenset({"sa", "s2", "si"})
    looks = {kind: strings for kind in strings} | {"k": frozenset({"k"})}
    page = code('<span class="sa">f</span><span class="s2">&quot;</span><span class="si">{</span>x'
                '<span class="si">}</span> <span class="s2">&quot;</span><span class="k">if</span>')
    assert light.fewer_spans(page, looks) == code('<span class="sa">f&quot;{</span>x<span class="si">}</span> '
                                                  '<span class="s2">&quot;</span><span class="k">if</span>')


def test_drawings_have_their_room_before_they_arrive(tmp_path: Path):
    for folder in ("_images", "chapters"):
        (tmp_path / folder).mkdir()
    (tmp_path / "_images/a.svg").write_text('<svg viewBox="0 0 100 40"><path d="M0 0"/></svg>')
    page = tmp_path / "chapters/c.html"
    image = '<img alt="its width is 3" src="../_images/a.svg" />'
    made = light.sized(image, page)
    width, height = (int(side) for side in re.findall(r'(?:width|height)="(\d+)"', made))
    assert made.endswith(image[4:]) and abs(width / height - 100 / 40) < 0.1 and 100 <= width <= 140
    assert light.sized(made, page) == made
    for other in (image.replace("a.svg", "gone.svg"), image.replace("<img", '<img style="width: 50%"')):
        assert light.sized(other, page) == other


def test_a_sound_is_a_file_of_the_site(tmp_path: Path):
    (tmp_path / "_static").mkdir()
    wav = b"RIFF1234WAVE" * 3
    data = base64.b64encode(wav).decode()
    page = f'<audio src="data:audio/wav;base64,{data}"></audio><img src="data:image/png;base64,aa">'
    path = tmp_path / "chapters/a.html"
    made = light.served(page, path, tmp_path)
    [file] = (tmp_path / "_static/sounds").iterdir()
    assert file.read_bytes() == wav and f'src="../_static/sounds/{file.name}"' in made and "image/png;base64,aa" in made
    assert light.served(made, path, tmp_path) == made
    light.served(page.replace(data, base64.b64encode(b"RIFF").decode()), path, tmp_path)
    assert len(list((tmp_path / "_static/sounds").iterdir())) == 2
    assert f'src="_static/sounds/{file.name}"' in light.served(page, tmp_path / "index.html", tmp_path)
