<?php
// Who asks and by which URL, as Symfony's request class takes it from a proxy that the application trusts: the one at the other end of
// the connection, and 10.0.0.0/8. `?by=forwarded` believes Forwarded, anything else X-Forwarded-*, `?by=both` the two of them.

declare(strict_types=1);
require __DIR__ . '/common.php';
require 'Symfony/Component/HttpFoundation/autoload.php';

use Symfony\Component\HttpFoundation\Request;

// What Symfony itself calls deprecated is none of ours.
error_reporting(E_ALL & ~E_DEPRECATED & ~E_USER_DEPRECATED);
came_here('told');
header('Content-Type: text/plain');
header('Cache-Control: no-store');

$headers = match ($_GET['by'] ?? '') {
    'forwarded' => Request::HEADER_FORWARDED,
    'both' => Request::HEADER_X_FORWARDED_FOR | Request::HEADER_X_FORWARDED_HOST | Request::HEADER_X_FORWARDED_PROTO
        | Request::HEADER_X_FORWARDED_PORT | Request::HEADER_FORWARDED,
    default => Request::HEADER_X_FORWARDED_FOR | Request::HEADER_X_FORWARDED_HOST | Request::HEADER_X_FORWARDED_PROTO
        | Request::HEADER_X_FORWARDED_PORT | Request::HEADER_X_FORWARDED_PREFIX,
};
Request::setTrustedProxies(['REMOTE_ADDR', '10.0.0.0/8'], $headers);
$request = Request::createFromGlobals();
echo implode(' ', [$request->getClientIp(), $request->getScheme(), $request->getHost(), $request->getPort()]), "\n";
echo $request->getSchemeAndHttpHost(), $request->getBaseUrl(), "\n";
