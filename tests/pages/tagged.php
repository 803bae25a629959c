<?php
// A page of the CMS: may be kept by a shared cache, carries the tags of ?tags=.

declare(strict_types=1);
require __DIR__ . '/common.php';

came_here('tagged');
header('Content-Type: text/plain');
header('Cache-Control: public, max-age=5, s-maxage=600');
header('xkey: ' . ($_GET['tags'] ?? 'ez-all'));
echo 'tagged by ', node_name(), ' at ', hrtime(true), "\n";
