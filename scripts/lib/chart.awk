# The lines "WHERE THE LIST INDEX IS   N RPCs" of scripts/bench-nfs, those of NFSv3 first, as an SVG of horizontal bars: readable
# on a light page and on a dark one.

/ RPCs$/ {
    count = $(NF - 1)
    sub(/ +[0-9]+ RPCs$/, "")
    if (!($0 in row)) {
        row[$0] = ++rows
        name[rows] = $0
    }
    figure[row[$0], ++seen[row[$0]]] = count
    if (count > most) most = count
}

END {
    if (!rows) {
        print "chart.awk: no counts" >"/dev/stderr"
        exit 1
    }
    split("#4c78a8 #f58518", colour)
    split("NFSv3 NFSv4.2", version)
    left = 330; width = 330; bar = 14; step = 2 * bar + 14; top = 58
    height = top + rows * step + 8
    printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 %d\" width=\"720\" height=\"%d\"", height, height
    print " font-family=\"sans-serif\" font-size=\"13\" fill=\"#7d7d7d\">"
    print "<title>RPCs of one session: login, LIST with STATUS of 30 folders, logout</title>"
    print "<text x=\"0\" y=\"18\" font-size=\"15\">RPCs of one session: login, LIST with STATUS of 30 folders, logout</text>"
    for (v = 1; v <= 2; v++) {
        printf "<rect x=\"%d\" y=\"30\" width=\"12\" height=\"12\" fill=\"%s\"/>", left + (v - 1) * 90, colour[v]
        printf "<text x=\"%d\" y=\"41\">%s</text>\n", left + (v - 1) * 90 + 18, version[v]
    }
    for (r = 1; r <= rows; r++) {
        y = top + (r - 1) * step
        printf "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", left - 10, y + bar + 5, name[r]
        for (v = 1; v <= seen[r]; v++) {
            long = width * figure[r, v] / most
            at = y + (v - 1) * (bar + 2)
            printf "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>", left, at, long, bar, colour[v]
            printf "<text x=\"%.1f\" y=\"%d\">%d</text>\n", left + long + 6, at + bar - 2, figure[r, v]
        }
    }
    print "</svg>"
}
