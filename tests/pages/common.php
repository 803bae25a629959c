<?php
// What the pages share. Each page calls came_here() first, so that a test can count how often it really ran.

declare(strict_types=1);

function node_name(): string
{
    return getenv('NODE_NAME') ?: 'unnamed';
}

/** Adds one byte to the counter file of this page. */
function came_here(string $page): void
{
    $folder = getenv('COUNTERS');
    if ($folder !== false) {
        file_put_contents("$folder/$page.count", '.', FILE_APPEND | LOCK_EX);
    }
}
