<?php
// Answers with the method and the body of the request.

declare(strict_types=1);
require __DIR__ . '/common.php';

came_here('echo');
header('Content-Type: text/plain');
header('Cache-Control: no-store');
echo $_SERVER['REQUEST_METHOD'], ' ', file_get_contents('php://input'), "\n";
