/// The style sheet of HTML reports. Blue and orange stay apart for every kind of colour vision (after M. Okabe and K. Ito, Color
/// Universal Design); shapes and words repeat what colour says.
enum PageStyle {
  static let sheet: StaticString = """
    :root{color-scheme:light dark;--ground:#fff;--panel:#f5f7f9;--text:#1c2430;--soft:#5a6675;--rule:#d5dbe2;--a:#0b67b2;--b:#c65a00;\
    --c:#6b7684;--r:#6b7684;--band:#0b67b21f;--good:#0b67b2;--bad:#b34700}
    @media screen and (prefers-color-scheme:dark){:root{--ground:#12171d;--panel:#1b222b;--text:#e4e9ef;--soft:#9aa7b5;--rule:#34404d;\
    --a:#5cb3f2;--b:#f39a3d;--c:#a2adba;--r:#a2adba;--band:#5cb3f22b;--good:#5cb3f2;--bad:#f39a3d}}
    *{box-sizing:border-box}
    body{margin:0 auto;padding:1.5rem 1.25rem 3rem;max-width:62rem;background:var(--ground);color:var(--text);\
    font:15px/1.5 system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif;overflow-wrap:anywhere}
    h1{font-size:1.55rem;line-height:1.25;margin:0 0 .2rem}
    h2{font-size:1.15rem;margin:2.4rem 0 .3rem;padding-top:.9rem;border-top:1px solid var(--rule)}
    p{margin:.35rem 0}
    .soft,figcaption,.unit{color:var(--soft)}
    code{font:.92em ui-monospace,"DejaVu Sans Mono",monospace}
    .verdict{display:flex;gap:.9rem;align-items:flex-start;margin:1rem 0;padding:.8rem 1rem;background:var(--panel);\
    border-left:.4rem solid var(--r);border-radius:.3rem}
    .verdict.good{border-color:var(--good)}.verdict.bad{border-color:var(--bad)}
    .verdict>.sign{font-size:1.7rem;line-height:1.2;min-width:1.6rem;text-align:center}
    .verdict.good>.sign{color:var(--good)}.verdict.bad>.sign{color:var(--bad)}
    .verdict ul{margin:.25rem 0 0;padding-left:1.1rem}
    .word{font-weight:700;font-size:1.1rem}
    .tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(7.4rem,1fr));gap:.6rem;margin:1rem 0}
    .tile{background:var(--panel);border-radius:.3rem;padding:.5rem .65rem}
    .tile b{display:block;font-size:1.08rem;line-height:1.4;white-space:nowrap;font-variant-numeric:tabular-nums}
    .tile span{color:var(--soft);font-size:.85rem}
    table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.92rem}
    .scroll{overflow-x:auto}
    th,td{text-align:left;padding:.22rem 1.1rem .22rem 0;border-bottom:1px solid var(--rule);vertical-align:top}
    thead th{color:var(--soft);font-weight:600;white-space:nowrap}
    td.n,th.n{text-align:right;white-space:nowrap}
    .conditions th{color:var(--soft);font-weight:400;white-space:nowrap;padding-right:1.4rem}
    td.w{min-width:14rem}
    td.good{color:var(--good);font-weight:600}td.bad{color:var(--bad);font-weight:600}
    figure{margin:.9rem 0 1.4rem}
    figcaption{font-size:.9rem}
    figcaption b{color:var(--text)}
    .plot{overflow-x:auto}
    svg{display:block;width:100%;min-width:34rem;height:auto}
    svg text{font:12px system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif;fill:var(--text)}
    svg .n{fill:var(--soft)}svg .s{font-weight:600}
    svg .g{stroke:var(--rule);stroke-width:1}svg .x{stroke:var(--soft);stroke-width:1}
    svg .l{fill:none;stroke-width:2;stroke-linejoin:round}svg .i{stroke-width:2.2}
    svg .a,svg .ra{stroke:var(--a)}svg .b,svg .rb{stroke:var(--b)}svg .c{stroke:var(--c);stroke-dasharray:2 3}
    svg .r{stroke:var(--r)}svg .l.r{stroke-dasharray:6 4}svg .ra,svg .rb{stroke-dasharray:6 4;stroke-width:1.3;opacity:.85}
    svg .fa{fill:var(--a)}svg .fb{fill:var(--b)}svg .fr{fill:var(--r)}svg .band{fill:var(--band)}
    svg .ha{fill:#1a7fd0}svg .hb{fill:#e07b10}svg .h{image-rendering:pixelated}
    details{margin:.3rem 0}
    summary{cursor:pointer;color:var(--soft);font-size:.9rem}
    footer{margin-top:2.5rem;color:var(--soft);font-size:.85rem}
    @media print{body{max-width:none;padding:0;font-size:10pt}h2{break-after:avoid}.plot,.verdict,.tiles,tr{break-inside:avoid}figcaption,summary{break-after:avoid}details.long{display:none}\
    svg{min-width:0}.plot,.scroll{overflow:visible}summary{list-style:none}\
    details::details-content{content-visibility:visible;display:block;block-size:auto}\
    .verdict,.tile{border:1px solid var(--rule);background:none}.verdict{border-left-width:.4rem}\
    *{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
    """
}
